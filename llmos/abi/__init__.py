"""Types that both sides of a boundary share: frozen dataclasses, enums, the error tree and the wire encoding."""
