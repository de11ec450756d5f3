//! Hostile networks: firewalls, killed guards, captive portals, sleep, clocks that jump.
