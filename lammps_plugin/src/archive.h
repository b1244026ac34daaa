// Files inside an artefact, which is a zip archive as torch writes it.
#pragma once
#include <filesystem>
#include <memory>
#include <string>

namespace caffe2::serialize {
class PyTorchStreamReader;
}

namespace nequip_lammps {

class Archive {
 public:
  // Throws std::runtime_error for a file that is not there, cut short or no archive.
  explicit Archive(const std::string& path);
  ~Archive();

  bool has(const std::string& name) const;
  std::string read(const std::string& name) const;
  void extract(const std::string& name, const std::filesystem::path& target) const;

 private:
  std::unique_ptr<caffe2::serialize::PyTorchStreamReader> reader;
};

// A folder that is gone when this is: what dlopen has read needs no file any more.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path path;
};

}  // namespace nequip_lammps
