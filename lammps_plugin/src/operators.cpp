#include "operators.h"

#include <dlfcn.h>
#include <link.h>

#include <stdexcept>
#include <vector>

namespace nequip_lammps {

namespace {

constexpr const char* ABI = "nequip_abi";

template <class Function>
Function* find(void* library, const std::string& name) {
  return reinterpret_cast<Function*>(dlsym(library, name.c_str()));
}

// The library of operators if this process has one: torch takes a namespace of operators once, so that a second
// artefact, or Python in the same process, must share it. Asking the loader spares a global variable, and sees
// what others loaded.
void* loaded_operators() {
  std::vector<std::string> names;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        if (info->dlpi_name != nullptr && *info->dlpi_name != '\0')
          static_cast<std::vector<std::string>*>(data)->emplace_back(info->dlpi_name);
        return 0;
      },
      &names);
  for (const std::string& name : names)
    if (void* library = dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
      if (dlsym(library, ABI) != nullptr) return library;
      dlclose(library);
    }
  return nullptr;
}

void* open_operators(const Archive& archive, const Card& card, const std::filesystem::path& folder) {
  if (void* library = loaded_operators()) return library;
  const auto file = folder / card.operators;
  archive.extract("nequip/" + card.operators, file);
  // never closed: torch keeps pointers to what it registers
  if (void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  throw std::runtime_error(dlerror());
}

}  // namespace

void load_operators(const Archive& archive, const Card& card, const std::string& path) {
  if (card.operators.empty()) return;
  const TemporaryFolder folder;
  void* library = open_operators(archive, card, folder.path);
  auto* abi = find<const char*()>(library, ABI);
  if (abi == nullptr || card.abi != abi())
    throw std::runtime_error(path + " was compiled with another version of e3forge than a potential already loaded: "
                             "compile both with the same");
  for (const KernelFile& kernel : card.kernels) {
    const auto file = folder.path / kernel.file;
    archive.extract("nequip/" + kernel.file, file);
    auto* load = find<const char*(const char*, int, const char*)>(library, "nequip_load_" + kernel.kind);
    if (load == nullptr) throw std::runtime_error(path + " holds a kernel of unknown kind " + kernel.kind);
    if (const char* problem = load(kernel.spec.c_str(), kernel.scalar_bytes, file.c_str()))
      throw std::runtime_error(problem);
  }
}

}  // namespace nequip_lammps
