"""The guest core: freestanding native code in each guest process, and how it is built and found."""
