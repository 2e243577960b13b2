# How OpenNebula's network drivers find the host side of a Xen guest's interface. They pick the class by the name of
# the VM_MAD and fall back to KVM's, which asks virsh; dnc gives each vif the name that oned chose (NIC/TARGET).
# Every file of vnmmad-load.d is loaded when a network driver starts.
module VNMMAD

    module VNMNetwork

        # A PV interface of a Xen guest: its name is in the xl configuration, so nothing has to be asked.
        # From 7.0 on interfaces have a class of their own, with what the drivers ask of VLANs; 6.10 has hashes.
        class NicDnc < (const_defined?(:Nic, false) ? const_get(:Nic) : Hash)

            def get_info(_vm)
                nil
            end

            def get_tap(vm)
                self[:tap] = self[:target] || "one-#{vm['ID']}-#{self[:nic_id]}"

                self
            end

            # The limit is the vif's rate, set when the guest starts.
            def set_qos(_deploy_id)
                text = "#{self[:target]}: the new limits hold from the guest's next start on"
                OpenNebula::DriverLogger.log_warning(text) if defined?(OpenNebula::DriverLogger)

                nil
            end

        end

        ['dnc', 'vmm_dnc'].each {|name| HYPERVISORS[name] = NicDnc }

        # Nothing depends on the VM_MAD's name: on a Xen host guests of any name are ours, but for containers.
        if File.exist?('/proc/xen/capabilities')
            HYPERVISORS['kvm'] = NicDnc
            HYPERVISORS.default = NicDnc
        end

    end

end
