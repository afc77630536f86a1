"""A plan played to a live server: ids, order and time, and a kernel's ways where a server lacks something."""
