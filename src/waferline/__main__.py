"""`python -m waferline`."""

from waferline.cli import main

main()
