"""What several API processes that serve one port share: the metrics of all of them."""
