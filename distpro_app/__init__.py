"""The console command ``distpro``, and the distillation of a folder of images."""
