"""Side-by-side benchmarks: both sides in one run, gated on correct totals."""
