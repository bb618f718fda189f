"""What flannelpy costs, measured on real Docker hosts: `make bench`, or `python -m tests.bench [FIGURE...]`."""
