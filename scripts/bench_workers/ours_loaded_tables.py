"""The same with radial tables, which calculators take by default in float32."""

from __future__ import annotations

from ours_loaded import main

if __name__ == "__main__":
    main(tables=True)
