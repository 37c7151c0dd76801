// fovea: the command line. (Commands arrive with their rooms; see docs/.)
#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "version") == 0) {
    std::puts("fovea " FOVEA_VERSION);
    return 0;
  }
  std::fputs("usage: fovea version\n", stderr);
  return 2;
}
