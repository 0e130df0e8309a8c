"""A Supabase to test against: real PostgreSQL, real PostgREST, and one gateway in front of them."""
