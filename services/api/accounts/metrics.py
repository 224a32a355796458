"""Metrics of people."""

from prometheus_client import Counter, Histogram

HASH_SECONDS = Histogram("kurs_password_hash_seconds", "Duration of one password hash, without the wait for its turn")
SIGN_INS = Counter("kurs_sign_ins_total", "Attempts to sign in", ["outcome"])
REUSED = Counter("kurs_refresh_reused_total", "Sign-ins that were ended because an old refresh token was presented")
