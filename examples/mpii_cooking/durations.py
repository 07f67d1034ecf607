"""Seconds, formatted for people."""


def duration(seconds: float) -> str:
    """Return 8.1 s, 5 min 12 s, 3 h 20 min or 4.2 days."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{seconds / 86400:.1f} days"
