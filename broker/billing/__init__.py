"""From metered machines to invoices: slices, rates, charges, invoice lines. Pure: no clock, no database, no network."""
