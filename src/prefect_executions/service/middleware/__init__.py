"""What stands before the routes: keys, rates, limits, headers, the audit log, telemetry."""
