// Memory of the arrays of a step, kept for the next.
#pragma once
#include <c10/core/Allocator.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

namespace nequip_lammps {

// Fresh memory is filled with zeros by the system, a page at a time: a tenth of a step, and more of one on several
// processes, which wait for the same memory. Steps want the same arrays again and again.
class KeptArrays : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override;
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

  // Within: torch's arrays on the CPU come from here. They may live on, but not longer than this object.
  class Scope {
   public:
    explicit Scope(KeptArrays& arrays);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    c10::Allocator* before;
  };

 private:
  struct Block {
    c10::DataPtr memory;
    size_t bytes;
    KeptArrays* owner;
  };

  static void keep(void* block);

  std::mutex mutex;  // arrays may be given back by threads of torch
  std::multimap<size_t, std::unique_ptr<Block>> kept;  // by size
  size_t kept_bytes = 0, used_bytes = 0, most_used_bytes = 0;
};

}  // namespace nequip_lammps
