"""What people read: a run's report, the overview of a store, summaries, pages, charts."""
