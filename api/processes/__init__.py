"""What lets several API processes serve one port: the socket that they inherit, and the metrics of all of them."""
