"""One number for the whole profile of a network's deviations: rules, what they detect, and their false alarms."""
