"""A calling application: ranks items for a customer and reports a purchase.

`rank_items.py SALT [PREDICTOR] [COLLECTOR]`. It needs `serinus.client` alone, which is standard library. The salt is
the service's (`serinus bucket … --json`).
"""

from __future__ import annotations

import sys

from serinus.client import Client, Refused, Unreachable

WHEN, BOUGHT_AT = "2011-12-09T10:00:00", "2011-12-09T10:05:00"  # an application of today leaves as_of out of requests


def main(salt: str, predictor: str = "http://127.0.0.1:8080", collector: str = "http://127.0.0.1:8090") -> int:
    """Prints the ranking; 1 when nobody answers, 2 when the request is refused."""
    try:
        with Client(predictor, service="retail", salt=salt) as serving:
            answer = serving.predict("12347", ["85123A", "22423", "20725"], as_of=WHEN)
        for place, one in enumerate(answer["items"], 1):
            sys.stdout.write(f"{place}. {one['item']}  {one['probability']:.3f}\n")
        first, request = answer["items"][0]["item"], answer["request_id"]
        purchase = {
            "id": f"{request}/{first}", "name": "bought", "request_id": request, "item": first, "value": 5.9,
            "as_of": BOUGHT_AT,
        }  # fmt: skip
        with Client(collector) as reporting:
            new = reporting.send_outcomes([purchase])
        sys.stdout.write(f"request {request}: {new} new outcome\n")
    except Refused as fault:
        sys.stderr.write(f"refused: {fault.body}\n")
        return 2
    except Unreachable as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
