#include "archive.h"

#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <stdlib.h>

#include <cstring>
#include <fstream>
#include <stdexcept>

namespace nequip_lammps {

namespace fs = std::filesystem;
using caffe2::serialize::PyTorchStreamReader;

Archive::Archive(const std::string& path) {
  if (!fs::is_regular_file(path)) throw std::runtime_error("there is no file " + path);
  try {
    reader = std::make_unique<PyTorchStreamReader>(path);
  } catch (const c10::Error&) {
    throw std::runtime_error(path +
                             " is no compiled potential, or is cut short: write it with nequip-compile POTENTIAL "
                             "NAME.nequip.pt2 --target lammps");
  }
}

Archive::~Archive() = default;

bool Archive::has(const std::string& name) const { return reader->hasRecord(name); }

std::string Archive::read(const std::string& name) const {
  const auto [data, size] = reader->getRecord(name);
  return {static_cast<const char*>(data.get()), size};
}

void Archive::extract(const std::string& name, const fs::path& target) const {
  fs::create_directories(target.parent_path());
  const std::string content = read(name);
  std::ofstream file(target, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  if (!file)
    throw std::runtime_error("cannot write " + target.string() + ": make room, or set TMPDIR to another folder");
}

TemporaryFolder::TemporaryFolder() {
  std::error_code failed;
  const fs::path parent = fs::temp_directory_path(failed);
  std::string name = ((failed ? fs::path("/tmp") : parent) / "nequip-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr)
    throw std::runtime_error("cannot make the folder " + name + " (" + std::strerror(errno) +
                             "): set TMPDIR to one that can be written to");
  path = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace nequip_lammps
