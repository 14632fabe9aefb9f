"""The ports of remote mode: a database of documents and an object store, as narrow protocols, and their clients.

Owns the promises (``docs``, ``objects``) and, one module a vendor library, the clients that keep them. Nothing else in
the package imports such a library, and no exception of one leaves this package: callers see ``dreamlake.errors``.
A simulation passes its own ``Docs`` and ``Objects``, exactly as it passes its own ``Fs``.
"""
