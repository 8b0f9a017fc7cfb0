"""The database that the ledger lives in: connections, tables, migrations."""
