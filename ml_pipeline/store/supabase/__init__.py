"""The store in a Supabase project."""
