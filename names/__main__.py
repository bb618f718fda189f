"""`python -m names ADDRESS:PORT`: started by names/process.py."""

from names.server import main

main()
