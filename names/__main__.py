"""`python -m names PORT ADDRESS...`: started by names/process.py."""

from names.server import main

main()
