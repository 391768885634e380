"""The kernel: decides on one loop, keeps a journal, starts and watches children. It never imports torch."""
