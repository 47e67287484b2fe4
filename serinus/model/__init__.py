"""Models as bundles: plain files that can be read, hashed and scored anywhere, without pickle."""
