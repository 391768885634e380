"""The words both sides of a boundary say: frozen dataclasses, enums, the error tree and the wire encoding."""
