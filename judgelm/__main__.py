"""`python -m judgelm`."""

from judgelm.cli import main

main()
