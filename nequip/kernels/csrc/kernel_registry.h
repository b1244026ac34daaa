// Generated kernels: libraries loaded at run time, found by specification and size of a scalar.
#pragma once
#include <dlfcn.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace {

bool machine_has(const std::string& instruction_set) {
#if defined(__x86_64__)
  if (instruction_set == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (instruction_set == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return instruction_set == "generic";
}

struct Library {
  void* handle;

  // Lets `pointer` point to what the library calls `name`, if it has that.
  template <class T>
  void find(T*& pointer, const std::string& name) const {
    if (void* symbol = dlsym(handle, name.c_str())) pointer = reinterpret_cast<T*>(symbol);
  }
};

// The kernels of one kind. Every library of a kind KIND has KIND_instruction_set and KIND_sizes; a Kernel has
// `sizes` and functions, which are null where no library was loaded for a specification.
template <class Kernel>
class Registry {
 public:
  static Registry& of() {
    static Registry kernels;
    return kernels;
  }

  Kernel find(const std::string& spec, int scalar_bytes) {
    std::lock_guard<std::mutex> guard(lock);
    const auto found = kernels.find({spec, scalar_bytes});
    return found == kernels.end() ? Kernel{} : found->second;
  }

  // Returns nullptr, or what is wrong; the text lives until the next call in this thread.
  template <class Fill>
  const char* load(const std::string& kind, const char* spec, int scalar_bytes, const char* path, Fill fill) {
    static thread_local std::string problem;
    const Library library{dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (library.handle == nullptr) {
      problem = dlerror();
      return problem.c_str();
    }
    const char* (*instruction_set)() = nullptr;
    const int32_t* sizes = nullptr;
    library.find(instruction_set, kind + "_instruction_set");
    library.find(sizes, kind + "_sizes");
    if (instruction_set == nullptr || sizes == nullptr) {
      problem = std::string(path) + " is no kernel library of ours";
      return problem.c_str();
    }
    if (!machine_has(instruction_set())) {
      problem = std::string(path) + " was built for " + instruction_set() + ", which this machine lacks";
      return problem.c_str();
    }
    std::lock_guard<std::mutex> guard(lock);
    Kernel& kernel = kernels[{spec, scalar_bytes}];
    kernel.sizes = sizes;
    fill(kernel, library);
    return nullptr;
  }

 private:
  std::mutex lock;
  std::map<std::pair<std::string, int>, Kernel> kernels;
};

}  // namespace
