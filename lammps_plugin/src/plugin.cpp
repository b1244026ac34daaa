// What LAMMPS calls on `plugin load nequipplugin.so`: registers a pair style for each architecture.
#include <string>

#include "lammps.h"
#include "library.h"
#include "pair_nequip.h"
#include "plugin_abi.h"

namespace {

using LAMMPS_NS::LAMMPS;
using LAMMPS_NS::PairNequip;

void* make_nequip(void* lammps) { return new PairNequip(static_cast<LAMMPS*>(lammps), "nequip"); }
void* make_allegro(void* lammps) { return new PairNequip(static_cast<LAMMPS*>(lammps), "allegro"); }
void* make_mace(void* lammps) { return new PairNequip(static_cast<LAMMPS*>(lammps), "mace"); }

// What keeps this plugin from running in that LAMMPS, or nothing. The layout of LAMMPS's classes differs with its
// version and the sizes of its integers, so that nothing but its C interface may be used before.
std::string misfit(void* lammps) {
  const int running = lammps_version(lammps);
  if (running != NEQUIP_LAMMPS_VERSION)
    return "the nequip plugin was built for LAMMPS " + std::to_string(NEQUIP_LAMMPS_VERSION) + ", and this is " +
           std::to_string(running) + ": build it again against this one (see docs/tutorials/lammps.md)";
  const bool same_sizes = lammps_extract_setting(lammps, "tagint") == sizeof(LAMMPS_NS::tagint) &&
                          lammps_extract_setting(lammps, "bigint") == sizeof(LAMMPS_NS::bigint) &&
                          lammps_extract_setting(lammps, "imageint") == sizeof(LAMMPS_NS::imageint);
  if (!same_sizes) return "the nequip plugin was built for other LAMMPS_SIZES than this LAMMPS: give CMake its own";
  return {};
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void* lammps, void* handle, void* regfunc) {
  if (const std::string problem = misfit(lammps); !problem.empty()) {
    lammps_error(lammps, LMP_ERROR_ALL, problem.c_str());
    return;
  }
  lammpsplugin_t style{};
  style.version = static_cast<LAMMPS*>(lammps)->version;
  style.style = "pair";
  style.info = "equivariant interatomic potentials compiled by nequip-compile --target lammps";
  style.author = "e3forge";
  style.handle = handle;
  const auto add = reinterpret_cast<lammpsplugin_regfunc>(regfunc);
  const struct {
    const char* name;
    lammpsplugin_factory* make;
  } styles[] = {{"nequip", &make_nequip}, {"allegro", &make_allegro}, {"mace", &make_mace}};
  for (const auto& [name, make] : styles) {
    style.name = name;
    style.creator.v1 = make;
    add(&style, lammps);
  }
}
