"""Trellis codes that might beat pi-t3 and pi-t2: build/format_search.py measures them."""
