"""The documents of the service: `/docs`, the OpenAPI document, the reference and the guide."""
