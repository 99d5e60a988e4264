from tests.model.conftest import clock, store, uri

__all__ = ["clock", "store", "uri"]
