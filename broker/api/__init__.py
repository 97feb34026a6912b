"""HTTP over a Unix socket. It translates: the deeds are in `broker/services`, behind `operations.Operations`."""
