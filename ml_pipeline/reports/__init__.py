"""For people's eyes: report, review, overview, summary, pages, charts."""
