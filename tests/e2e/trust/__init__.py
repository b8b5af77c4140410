"""Who may do what, checked from outside against two gateways and a worker."""
