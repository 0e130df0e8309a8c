"""What a store that answers predictions itself is given of a champion."""
