"""A page about runs: what their folders say, what their networks answer, charts, and the template that holds them."""
