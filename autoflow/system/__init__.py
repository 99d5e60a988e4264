"""The machine: room on its disks, a home folder for libraries, lean imports of them, and the exit of processes."""
