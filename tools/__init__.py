"""Development tools of dreamlake: series of real checkpoints, benchmarks, and the comparison with other stores."""
