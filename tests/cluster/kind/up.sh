#!/usr/bin/env bash
# A cluster on kind with what the tests need, in the versions of the test bed: KServe (Standard mode), the Gateway API,
# Envoy Gateway with class `envoy`, and the three images of this repository. Needs docker, kind, kubectl and helm.
# Running it again is harmless; `kind delete cluster --name serinus` takes everything away.
set -euo pipefail
cd "$(dirname "$0")/../../.."

CLUSTER=serinus
GATEWAY_API=v1.5.1
ENVOY_GATEWAY=v1.8.1
KSERVE=v0.20.0
CERT_MANAGER=v1.17.0
GITHUB=https://github.com
KSERVE_CHARTS=oci://ghcr.io/kserve/charts

for program in docker kind kubectl helm; do
  command -v "$program" >/dev/null || { echo "needs $program" >&2; exit 1; }
done

if ! kind get clusters | grep -qx "$CLUSTER"; then
  kind create cluster --config tests/cluster/kind/cluster.yaml --wait 120s
fi
kubectl config use-context "kind-$CLUSTER"

for target in predictor operator pipeline; do
  docker build --target "$target" --tag "serinus/$target:dev" .
  kind load docker-image --name "$CLUSTER" "serinus/$target:dev"
done

kubectl apply --server-side -f "$GITHUB/kubernetes-sigs/gateway-api/releases/download/$GATEWAY_API/standard-install.yaml"
helm template eg-crds oci://docker.io/envoyproxy/gateway-crds-helm --version "$ENVOY_GATEWAY" \
  --set crds.gatewayAPI.enabled=false --set crds.envoyGateway.enabled=true | kubectl apply --server-side -f -
helm upgrade --install eg oci://docker.io/envoyproxy/gateway-helm --version "$ENVOY_GATEWAY" \
  --namespace envoy-gateway-system --create-namespace --skip-crds --wait
kubectl apply -f tests/cluster/kind/gateway.yaml

# KServe's webhooks get their certificate from cert-manager.
kubectl apply -f "$GITHUB/cert-manager/cert-manager/releases/download/$CERT_MANAGER/cert-manager.yaml"
kubectl wait --namespace cert-manager --for=condition=Available deployment --all --timeout=180s
helm upgrade --install kserve-crd "$KSERVE_CHARTS/kserve-crd" --version "$KSERVE" \
  --namespace kserve --create-namespace --wait
helm upgrade --install kserve "$KSERVE_CHARTS/kserve-resources" --version "$KSERVE" --namespace kserve --wait \
  --set kserve.controller.deploymentMode=Standard \
  --set kserve.controller.gateway.ingressGateway.enableGatewayApi=true \
  --set kserve.controller.gateway.disableIstioVirtualHost=true

kubeconfig=${KUBECONFIG:-$HOME/.kube/config}
echo "up: run the tests with KUBECONFIG=$kubeconfig GATEWAY_ADDRESS=localhost:8080 make test-cluster"
