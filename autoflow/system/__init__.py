"""The machine: room on its disks, a home folder for libraries, and lean imports of them."""
