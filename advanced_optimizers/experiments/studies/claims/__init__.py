"""Claims and rules of topics whose own file would become too long with them. Only the topics import from here."""
