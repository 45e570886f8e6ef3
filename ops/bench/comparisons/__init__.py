"""The comparisons of `./stint bench`: one module each, or two that share a load."""
