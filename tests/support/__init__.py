"""What several tests share: makers of data and runs, servers on loopback, readers of manifests."""
