"""What scripts of stem's need of the torrc that a network writes for its users."""


def options(path):
    """Its options as stem takes them, but for the log."""
    found = {}
    for line in open(path):
        if line.strip() and not line.startswith("#"):
            option, value = line.strip().split(" ", 1)
            found.setdefault(option, []).append(value.strip('"'))
    found.pop("Log")
    return {option: values if len(values) > 1 else values[0] for option, values in found.items()}
