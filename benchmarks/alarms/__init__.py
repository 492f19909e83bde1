"""The rate of false alarms, measured with thousands of small networks of one recipe."""
