"""Look for wrong labels, near-duplicates and outliers: python scripts/audit.py data.dir=photos model=resnet50."""

from dogbreeds.commands import audit

if __name__ == "__main__":
    audit()
