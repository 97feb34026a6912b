"""Which offer. Pure: offers, request and limits in; a plan with its reasons out."""
