"""The middleware: keys, rate limits, body limits, headers, the audit log, telemetry."""
