"""Who prints our invoices and takes the money: Stripe. The ledger is the truth; nothing here decides what is owed."""
